// isomorphic-git: git in JavaScript alone, here with node's files and node's http.
import fs from 'node:fs'
import { createRequire } from 'node:module'

// Installed elsewhere: modules are looked for from the folder that NODE_PATH names.
const require = createRequire(process.env.NODE_PATH + '/')
const git = require('isomorphic-git')
const http = require('isomorphic-git/http/node')
const author = { name: 'Ada', email: 'ada@example.org' }

const steps = {
  version: () => console.log('isomorphic-git', git.version()),
  init: dir => git.init({ fs, dir, defaultBranch: 'main' }),
  async commit(dir, message, amend = false) {
    await git.add({ fs, dir, filepath: '.' })
    await git.commit({ fs, dir, message, author, amend })
  },
  rewrite: (dir, message) => steps.commit(dir, message, true),
  branch: (dir, ref) => git.branch({ fs, dir, ref }),
  tag: (dir, ref, message) => git.annotatedTag({ fs, dir, ref, message, tagger: author }),
  async push(dir, url, refspec) {
    const ref = refspec.replace(/^[+:]/, '')
    const done = await git.push({
      fs, http, dir, url, ref, remoteRef: ref,
      force: refspec.startsWith('+'), delete: refspec.startsWith(':'),
      onMessage: text => process.stdout.write(text)
    })
    if (!done.ok) throw new Error(JSON.stringify(done))
  },
  fetch: (dir, url) => git.fetch({ fs, http, dir, url, remote: 'origin' }),
  clone: (url, dir) => git.clone({ fs, http, dir, url })
}

const [step, ...args] = process.argv.slice(2)
try {
  await steps[step](...args)
} catch (error) {
  // What the server says beside a status is kept apart from the message.
  console.error(`${error.name}: ${error.message}`, error.data?.response ?? '')
  process.exitCode = 1
}
