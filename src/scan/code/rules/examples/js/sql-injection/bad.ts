import express, { Request, Response } from 'express';
import { Pool } from 'pg';

const app = express();
const pool = new Pool();

interface Filter {
  name?: string;
}

class Repository {
  constructor(private readonly pool: Pool) {}

  async byName(name: string): Promise<unknown[]> {
    const sql = `SELECT * FROM users WHERE name = '${name}'`;
    const result = await this.pool.query(sql); // BAD
    return result.rows;
  }
}

const repo = new Repository(pool);

app.get('/users', async (request: Request, response: Response): Promise<void> => {
  const name = request.query.name as string;
  response.json(await repo.byName(name));
});

export async function list(r: Request, w: Response) {
  const filter: Filter = r.body;
  await pool.query("SELECT * FROM users WHERE name = '" + filter.name + "'"); // BAD
  w.json({});
}
