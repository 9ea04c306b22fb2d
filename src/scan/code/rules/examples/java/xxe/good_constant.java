import java.io.*;
import javax.servlet.http.*;
import javax.xml.parsers.*;
import org.w3c.dom.Document;

class Imports extends HttpServlet {
    private static final String NO_DOCTYPE = "http://apache.org/xml/features/disallow-doctype-decl";

    interface Names {
        String FEATURE = "http://apache.org/xml/features/disallow-doctype-decl";
    }

    protected void doPost(HttpServletRequest request, HttpServletResponse response) throws IOException {
        try {
            strict(request.getInputStream());
            shared(request.getInputStream());
        } catch (Exception error) {
            response.sendError(400);
        }
    }

    private static Document strict(InputStream body) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setFeature(NO_DOCTYPE, true);
        DocumentBuilder builder = factory.newDocumentBuilder();
        return builder.parse(body);
    }

    private static Document shared(InputStream body) throws Exception {
        DocumentBuilderFactory factory = DocumentBuilderFactory.newInstance();
        factory.setFeature(Names.FEATURE, true);
        return factory.newDocumentBuilder().parse(body);
    }
}
