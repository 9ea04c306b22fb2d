import java.io.*;
import javax.servlet.http.*;

class A extends HttpServlet {
    protected void doGet(HttpServletRequest req, HttpServletResponse resp) throws IOException {
        resp.getWriter().println("<h1>" + quotes(req.getParameter("name")) + "</h1>"); // BAD
    }

    private static String quotes(String text) {
        return text.replace("\"", "&quot;");
    }
}
