import java.io.*;
import java.util.List;
import javax.servlet.http.*;

class A extends HttpServlet {
    protected void doPost(HttpServletRequest req, HttpServletResponse resp) throws IOException {
        String host = req.getParameter("host");
        new ProcessBuilder("ping", "-c", "1", host).start();
        new ProcessBuilder(List.of("ping", host)).start();
        Runtime.getRuntime().exec(new String[] {"ping", host});
        Runtime.getRuntime().exec("uptime");
    }
}
