import java.io.*;
import javax.servlet.http.*;
import javax.xml.parsers.*;
import org.w3c.dom.Document;

class Imports extends HttpServlet {
    private static final String NAMESPACES = "http://xml.org/sax/features/namespaces";
    private static String feature = "http://apache.org/xml/features/disallow-doctype-decl";

    protected void doPost(HttpServletRequest request, HttpServletResponse response) throws IOException {
        try {
            other(request.getInputStream());
            variable(request.getInputStream());
        } catch (Exception error) {
            response.sendError(400);
        }
    }

    private static Document other(InputStream body) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setFeature(NAMESPACES, true);
        return factory.newDocumentBuilder().parse(body); // BAD
    }

    private static Document variable(InputStream body) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setFeature(feature, true);
        return factory.newDocumentBuilder().parse(body); // BAD
    }
}
