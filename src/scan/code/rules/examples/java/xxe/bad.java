import java.io.*;
import javax.xml.parsers.*;
import org.springframework.web.bind.annotation.*;

@RestController
class Xml {
    @PostMapping("/xml")
    String parse(@RequestBody String body) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        DocumentBuilder builder = factory.newDocumentBuilder();
        builder.parse(new ByteArrayInputStream(body.getBytes())); // BAD
        return "ok";
    }
}
