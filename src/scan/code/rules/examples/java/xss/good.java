import java.io.*;
import javax.servlet.http.*;
import org.springframework.web.util.HtmlUtils;

class A extends HttpServlet {
    protected void doGet(HttpServletRequest req, HttpServletResponse resp) throws IOException {
        String name = HtmlUtils.htmlEscape(req.getParameter("name"));
        PrintWriter out = resp.getWriter();
        out.println("<h1>Hello " + name + "</h1>");
        System.out.println(req.getParameter("x"));
    }
}
