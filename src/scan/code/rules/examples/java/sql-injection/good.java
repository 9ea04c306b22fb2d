package app;

import java.io.IOException;
import java.sql.*;
import java.util.*;
import javax.servlet.http.*;
import org.springframework.jdbc.core.JdbcTemplate;
import org.springframework.web.bind.annotation.*;

@RestController
class Good {
    private static final Set<String> ALLOWED = Set.of("name", "age");
    private static final String BASE = "SELECT * FROM users";
    private JdbcTemplate jdbc;

    @GetMapping("/a")
    Object a(@RequestParam String name, @RequestParam int limit, @RequestParam Long id) {
        jdbc.queryForList("SELECT * FROM users WHERE name = ?", name);
        jdbc.queryForList(BASE + " LIMIT " + limit);
        return jdbc.queryForList(BASE + " WHERE id = " + id);
    }

    @GetMapping("/b")
    Object b(@RequestParam String sort) {
        if (!ALLOWED.contains(sort)) {
            throw new IllegalArgumentException("sort");
        }
        return jdbc.queryForList(BASE + " ORDER BY " + sort);
    }

    private String fixed(String x) {
        return "constant";
    }

    protected void doGet(HttpServletRequest request, HttpServletResponse response) throws Exception {
        String param = request.getParameter("x");
        Connection c = DriverManager.getConnection("jdbc:h2:mem:");
        Statement st = c.createStatement();
        String bar;
        int num = 86;
        if ((7 * 42) - num > 200) bar = "always";
        else bar = param;
        st.executeQuery("SELECT '" + bar + "'");
        List<String> list = new ArrayList<>();
        list.add("safe");
        list.add(param);
        list.add("more");
        list.remove(0);
        st.executeQuery("SELECT '" + list.get(1) + "'");
        Map<String, Object> map = new HashMap<>();
        map.put("a", "safe");
        map.put("b", param);
        st.executeQuery("SELECT '" + map.get("a") + "'");
        st.executeQuery("SELECT '" + fixed(param) + "'");
        st.executeQuery("SELECT " + Integer.parseInt(param));
        String guess = "ABC";
        char target = guess.charAt(1);
        String v;
        switch (target) {
            case 'A':
                v = param;
                break;
            case 'B':
                v = "bob";
                break;
            default:
                v = param;
        }
        st.executeQuery("SELECT '" + v + "'");
        PreparedStatement ps = c.prepareStatement("SELECT * FROM t WHERE a = ?");
        ps.setString(1, param);
        ps.executeQuery();
        String column = switch (param) {
            case "age" -> "age";
            default -> "name";
        };
        st.executeQuery("SELECT " + column);
    }
}
