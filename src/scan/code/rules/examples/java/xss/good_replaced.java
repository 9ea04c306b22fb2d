import java.io.*;
import javax.servlet.http.*;

class A extends HttpServlet {
    protected void doGet(HttpServletRequest req, HttpServletResponse resp) throws IOException {
        resp.getWriter().println("<h1>" + clean(req.getParameter("name")) + "</h1>");
    }

    private static String clean(String text) {
        return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;");
    }
}
