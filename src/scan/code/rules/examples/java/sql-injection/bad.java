package app;

import java.io.IOException;
import java.sql.*;
import jakarta.servlet.http.*;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.web.bind.annotation.*;

@RestController
@RequestMapping("/users")
class UserController {
    private final JdbcTemplate jdbc;
    private final UserDao dao;

    UserController(JdbcTemplate jdbc, UserDao dao) {
        this.jdbc = jdbc;
        this.dao = dao;
    }

    @GetMapping("/search")
    public java.util.List<String> search(@RequestParam String name) {
        String sql = "SELECT name FROM users WHERE name = '" + name + "'";
        return jdbc.queryForList(sql, String.class); // BAD
    }

    @GetMapping("/{id}")
    public Object one(@PathVariable("id") String id) {
        return dao.find(id);
    }
}

class UserDao {
    private Connection connection;

    Object find(String id) {
        String q = String.format("SELECT * FROM users WHERE id = '%s'", id);
        try (Statement st = connection.createStatement(); ResultSet rs = st.executeQuery(q)) { // BAD
            return rs.next();
        } catch (SQLException e) {
            return null;
        }
    }
}

class UserServlet extends HttpServlet {
    private static String clause(String value) {
        return " WHERE name = '" + value + "'";
    }

    @Override
    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws IOException {
        String user = request.getParameter("user");
        StringBuilder sb = new StringBuilder();
        sb.append("SELECT * FROM users WHERE name = '");
        sb.append(user).append("'");
        try {
            Connection c = DriverManager.getConnection("jdbc:h2:mem:");
            Statement statement = c.createStatement();
            statement.executeQuery(sb.toString()); // BAD
            statement.execute("SELECT * FROM users" + clause(request.getHeader("X-User"))); // BAD
            PreparedStatement p = c.prepareStatement("SELECT * FROM t WHERE a = " + user); // BAD
            p.executeQuery();
        } catch (SQLException e) {
            throw new IOException(e);
        }
    }
}
