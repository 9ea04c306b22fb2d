// simple-git: runs git, and reads what it prints.
import fs from 'node:fs'
import { createRequire } from 'node:module'

// Installed elsewhere: modules are looked for from the folder that NODE_PATH names.
const require = createRequire(process.env.NODE_PATH + '/')
const { simpleGit } = require('simple-git')

const steps = {
  version() {
    const about = fs.readFileSync(process.env.NODE_PATH + '/simple-git/package.json')
    console.log('simple-git', JSON.parse(about).version)
  },
  init(dir) {
    fs.mkdirSync(dir)
    return simpleGit(dir).init({ '--initial-branch': 'main' })
  },
  async commit(dir, message) {
    await simpleGit(dir).add('.').commit(message)
  },
  async rewrite(dir, message) {
    await simpleGit(dir).add('.').commit(message, { '--amend': null })
  },
  branch: (dir, name) => simpleGit(dir).branch([name]),
  tag: (dir, name, message) => simpleGit(dir).addAnnotatedTag(name, message),
  push: (dir, url, refspec) => simpleGit(dir).push(url, refspec),
  fetch: dir => simpleGit(dir).fetch('origin'),
  clone: (url, dir) => simpleGit().clone(url, dir)
}

const [step, ...args] = process.argv.slice(2)
try {
  await steps[step](...args)
} catch (error) {
  console.error(`${error.name}: ${error.message}`)
  process.exitCode = 1
}
