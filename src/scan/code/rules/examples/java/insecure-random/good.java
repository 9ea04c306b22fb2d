import java.security.SecureRandom;
import java.util.Random;

class Tokens {
    private final SecureRandom random = new SecureRandom();

    String newToken() {
        return Long.toHexString(random.nextLong());
    }

    int jitter() {
        return new Random().nextInt(100);
    }
}
