import java.io.*;
import java.nio.file.*;
import org.springframework.web.bind.annotation.*;

@RestController
class Files1 {
    @GetMapping("/f")
    byte[] read(@RequestParam("name") String name) throws IOException {
        Path p = Paths.get("/data", name);
        return Files.readAllBytes(p); // BAD
    }

    @GetMapping("/g")
    String other(@RequestParam String name) throws IOException {
        File file = new File("/data/" + name);
        try (FileInputStream in = new FileInputStream(file)) { // BAD
            return String.valueOf(in.read());
        }
    }
}
