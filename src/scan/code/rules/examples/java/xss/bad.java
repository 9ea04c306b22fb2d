import java.io.*;
import javax.servlet.http.*;

class A extends HttpServlet {
    protected void doGet(HttpServletRequest req, HttpServletResponse resp) throws IOException {
        String name = req.getParameter("name");
        PrintWriter out = resp.getWriter();
        out.println("<h1>Hello " + name + "</h1>"); // BAD
        resp.getWriter().write("<p>" + req.getParameter("q") + "</p>"); // BAD
    }
}
