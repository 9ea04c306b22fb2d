const app = require('express')();
app.get('/', (req, res) => {
  res.cookie('session', 'x', { httpOnly: false, secure: true }); // BAD
  res.cookie('token', 'x'); // BAD
});
const session = require('express-session');
app.use(session({ secret: process.env.SECRET, cookie: { secure: false, httpOnly: true } })); // BAD
