import java.io.*;
import java.nio.file.*;
import org.springframework.web.bind.annotation.*;

@RestController
class Files1 {
    private static final Path BASE = Paths.get("/data");

    @GetMapping("/f")
    byte[] read(@RequestParam("name") String name) throws IOException {
        Path p = BASE.resolve(name).normalize();
        if (!p.startsWith(BASE)) {
            throw new IOException("outside");
        }
        return Files.readAllBytes(p);
    }
}
