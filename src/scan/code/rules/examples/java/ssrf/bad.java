import java.io.*;
import java.net.*;
import org.springframework.web.bind.annotation.*;
import org.springframework.web.client.RestTemplate;

@RestController
class Proxy {
    private final RestTemplate rest = new RestTemplate();

    @GetMapping("/a")
    String a(@RequestParam String url) {
        return rest.getForObject(url, String.class); // BAD
    }

    @GetMapping("/b")
    int b(@RequestParam String host) throws IOException {
        URL target = new URL("http://" + host + "/status");
        HttpURLConnection c = (HttpURLConnection) target.openConnection(); // BAD
        return c.getResponseCode();
    }
}
