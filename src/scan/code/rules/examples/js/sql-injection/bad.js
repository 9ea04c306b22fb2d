const express = require('express');
const { Pool } = require('pg');
const router = express.Router();
const pool = new Pool();

function buildQuery(name) {
  return `SELECT * FROM users WHERE name = '${name}'`;
}

const findUser = async (id) => {
  return pool.query("SELECT * FROM users WHERE id = " + id); // BAD
};

router.get('/a', async (req, res) => {
  const { id } = req.query;
  const result = await pool.query(`SELECT * FROM users WHERE id = ${id}`); // BAD
  res.json(result.rows);
});

router.post('/b', (req, res, next) => {
  const name = req.body.name;
  let sql = 'SELECT * FROM users';
  if (name) {
    sql += " WHERE name = '" + name + "'";
  }
  pool.query(sql, (err, rows) => { // BAD
    if (err) return next(err);
    res.json(rows);
  });
});

router.get('/c/:name', async function (req, res) {
  const rows = await pool.query(buildQuery(req.params.name)); // BAD
  res.json(rows);
});

router.get('/d', async (req, res) => {
  const user = await findUser(req.query.id);
  res.json(user);
});

class UserService {
  constructor(db) {
    this.db = db;
  }
  search(term) {
    return this.db.query("SELECT * FROM t WHERE x LIKE '%" + term + "%'"); // BAD
  }
}
const service = new UserService(pool);
router.get('/e', (req, res) => {
  service.search(req.query.q).then((rows) => res.json(rows));
});

router.get('/f', (req, res) => {
  const ids = req.query.ids.split(',').map((x) => x.trim());
  pool.query('SELECT * FROM t WHERE id IN (' + ids.join(',') + ')'); // BAD
});
