const app = require('express')();
app.get('/', (req, res) => {
  res.cookie('session', 'x', { httpOnly: false, secure: true }); // BAD
  res.cookie('token', 'x'); // BAD
});
