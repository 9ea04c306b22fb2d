import java.io.IOException;
import javax.servlet.http.*;
import org.springframework.stereotype.Controller;
import org.springframework.web.bind.annotation.*;

@Controller
class Go {
    @GetMapping("/a")
    void a(@RequestParam String to, HttpServletResponse response) throws IOException {
        response.sendRedirect(to); // BAD
    }

    @GetMapping("/b")
    String b(@RequestParam String to) {
        return "redirect:" + to; // BAD
    }
}
