import java.util.Random;

class Tokens {
    private final Random random = new Random();

    String newToken() {
        return Long.toHexString(random.nextLong()); // BAD
    }
}
