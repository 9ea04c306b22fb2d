import javax.crypto.Cipher;

class A {
    void f() throws Exception {
        Cipher a = Cipher.getInstance("DES/CBC/PKCS5Padding"); // BAD
        Cipher b = Cipher.getInstance("AES/ECB/PKCS5Padding"); // BAD
    }
}
