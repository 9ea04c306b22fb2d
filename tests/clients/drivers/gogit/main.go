// The steps with go-git. Built without modules, against Debian's packages.
package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	git "github.com/go-git/go-git/v5"
	"github.com/go-git/go-git/v5/config"
	"github.com/go-git/go-git/v5/plumbing"
	"github.com/go-git/go-git/v5/plumbing/object"
)

func main() {
	if err := run(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func by() *object.Signature {
	return &object.Signature{Name: "Ada", Email: "ada@example.org", When: time.Now()}
}

func run(step string, args []string) error {
	switch step {
	case "version":
		// The package does not know its version; Debian does.
		said, err := exec.Command("dpkg-query", "-W", "-f", "go-git ${Version}",
			"golang-github-go-git-go-git-dev").Output()
		fmt.Println(string(said))
		return err
	case "init":
		if _, err := git.PlainInit(args[0], false); err != nil {
			return err
		}
		head := []byte("ref: refs/heads/main\n")
		return os.WriteFile(filepath.Join(args[0], ".git", "HEAD"), head, 0o644)
	case "clone":
		_, err := git.PlainClone(args[1], false, &git.CloneOptions{URL: args[0]})
		return err
	}
	repo, err := git.PlainOpen(args[0])
	if err != nil {
		return err
	}
	switch step {
	case "commit", "rewrite":
		return commit(repo, args[1], step == "rewrite")
	case "branch":
		head, err := repo.Head()
		if err != nil {
			return err
		}
		name := plumbing.NewBranchReferenceName(args[1])
		return repo.Storer.SetReference(plumbing.NewHashReference(name, head.Hash()))
	case "tag":
		head, err := repo.Head()
		if err != nil {
			return err
		}
		_, err = repo.CreateTag(args[1], head.Hash(),
			&git.CreateTagOptions{Tagger: by(), Message: args[2]})
		return err
	case "push":
		spec := args[2]
		if !strings.Contains(spec, ":") {
			spec += ":" + strings.TrimPrefix(spec, "+")
		}
		remote := git.NewRemote(repo.Storer,
			&config.RemoteConfig{Name: "there", URLs: []string{args[1]}})
		// Without a place for progress it asks for no side-band, which is tested here too.
		return remote.Push(&git.PushOptions{
			RemoteName: "there",
			RefSpecs:   []config.RefSpec{config.RefSpec(spec)},
		})
	case "fetch":
		return repo.Fetch(&git.FetchOptions{Progress: os.Stderr})
	}
	return errors.New("no step " + step)
}

func commit(repo *git.Repository, message string, instead bool) error {
	tree, err := repo.Worktree()
	if err != nil {
		return err
	}
	if err := tree.AddWithOptions(&git.AddOptions{All: true}); err != nil {
		return err
	}
	options := git.CommitOptions{Author: by()}
	if instead {
		head, err := repo.Head()
		if err != nil {
			return err
		}
		old, err := repo.CommitObject(head.Hash())
		if err != nil {
			return err
		}
		options.Parents = old.ParentHashes
	}
	_, err = tree.Commit(message, &options)
	return err
}
