// Package goutbox_test checks the house itself: who may import whom, how large a
// file may be, that every package says what it is.
package goutbox_test

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/goutbox/goutbox/"

// mayImport says, for each package of the library, what it may import beside the
// standard library. Siblings do not know each other.
var mayImport = map[string][]string{
	"outbox":          {"github.com/oklog/ulid/v2"},
	"wal":             {},
	"wal/waltest":     {module + "wal"},
	"store/mem":       {module + "outbox", "github.com/oklog/ulid/v2"},
	"store/storetest": {module + "outbox"},
	"store/postgres":  {module + "outbox"}, // no driver: the application chooses
	"store/bolt": {
		module + "outbox", module + "wal", "github.com/oklog/ulid/v2",
		"go.etcd.io/bbolt", "go.etcd.io/bbolt/errors", "golang.org/x/sys/unix", "golang.org/x/sys/windows",
	},
}

// sources calls f with every Go file of the repository that is not a test.
func sources(t *testing.T, f func(path string, file *ast.File)) {
	t.Helper()
	require.NoError(t, filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && len(path) > 1 && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments|parser.ImportsOnly)
		require.NoError(t, err)
		f(filepath.ToSlash(path), parsed)
		return nil
	}))
}

func TestHouse_Imports(t *testing.T) {
	seen := map[string]bool{}
	sources(t, func(path string, file *ast.File) {
		dir := filepath.ToSlash(filepath.Dir(path))
		allowed, library := mayImport[dir]
		if !library {
			program := strings.HasPrefix(dir, "examples/") || strings.HasPrefix(dir, "cmd/") || strings.HasPrefix(dir, "store/postgres/examples/")
			require.True(t, program, "%s: add %s to mayImport", path, dir)
			return
		}
		seen[dir] = true
		for _, spec := range file.Imports {
			name := strings.Trim(spec.Path.Value, `"`)
			if !strings.Contains(strings.Split(name, "/")[0], ".") {
				continue // standard library
			}
			require.True(t, slices.Contains(allowed, name), "%s must not import %s", path, name)
		}
	})
	require.Len(t, seen, len(mayImport), "a package of the list is gone")
}

// Nothing of the tests may reach a user's binary.
func TestHouse_NoTestCodeInUse(t *testing.T) {
	list := exec.Command("go", "list", "-deps", "./outbox", "./wal", "./store/mem", "./store/bolt")
	list.Env = append(os.Environ(), "GOFLAGS=-mod=readonly")
	out, err := list.Output()
	require.NoError(t, err)
	for dep := range strings.Lines(string(out)) {
		dep = strings.TrimSpace(dep)
		require.NotEqual(t, "testing", dep)
		require.NotContains(t, dep, "testify")
	}
}

func TestHouse_FileSize(t *testing.T) {
	sources(t, func(path string, _ *ast.File) {
		f, err := os.Open(path)
		require.NoError(t, err)
		defer f.Close()
		lines, s := 0, bufio.NewScanner(f)
		for s.Scan() {
			lines++
		}
		require.NoError(t, s.Err())
		require.LessOrEqual(t, lines, 400, "%s: split it by step or noun", path)
	})
}

func TestHouse_PackageComments(t *testing.T) {
	commented := map[string]bool{}
	sources(t, func(path string, file *ast.File) {
		dir := filepath.Dir(path)
		commented[dir] = commented[dir] || file.Doc != nil
	})
	for dir, ok := range commented {
		require.True(t, ok, "package in %s has no comment", dir)
	}
}
