import java.io.*;
import javax.servlet.http.*;

class A extends HttpServlet {
    protected void doPost(HttpServletRequest req, HttpServletResponse resp) throws Exception {
        ObjectInputStream in = new ObjectInputStream(req.getInputStream());
        Object o = in.readObject(); // BAD
    }
}
