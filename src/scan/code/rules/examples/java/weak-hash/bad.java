import java.security.MessageDigest;

class Passwords {
    byte[] hash(String password) throws Exception {
        return MessageDigest.getInstance("MD5").digest(password.getBytes()); // BAD
    }
}
