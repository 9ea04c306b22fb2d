const app = require('express')();
const OK = ['/home', '/about'];
app.get('/', (req, res) => {
  const target = OK.includes(req.query.next) ? req.query.next : '/home';
  res.redirect(target);
});
app.get('/b', (req, res) => res.redirect('/users/' + req.params.id));
