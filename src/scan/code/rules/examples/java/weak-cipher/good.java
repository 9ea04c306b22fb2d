import javax.crypto.Cipher;

class A {
    void f() throws Exception {
        Cipher a = Cipher.getInstance("AES/GCM/NoPadding");
    }
}
