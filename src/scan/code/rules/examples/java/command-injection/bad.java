import java.io.*;
import javax.servlet.http.*;

class A extends HttpServlet {
    protected void doPost(HttpServletRequest req, HttpServletResponse resp) throws IOException {
        String host = req.getParameter("host");
        Runtime.getRuntime().exec("ping -c 1 " + host); // BAD
        Runtime r = Runtime.getRuntime();
        String[] args = {"sh", "-c", "ping " + host};
        r.exec(args); // BAD
        new ProcessBuilder("bash", "-c", "ls " + host).start(); // BAD
    }
}
