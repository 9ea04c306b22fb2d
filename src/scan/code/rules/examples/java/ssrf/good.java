import java.io.*;
import java.net.*;
import org.springframework.web.bind.annotation.*;

@RestController
class Proxy {
    @GetMapping("/b")
    int b(@RequestParam String id) throws IOException {
        URL target = new URL("https://api.example.com/items/" + id);
        HttpURLConnection c = (HttpURLConnection) target.openConnection();
        return c.getResponseCode();
    }
}
