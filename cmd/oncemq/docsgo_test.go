package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// aroundGo is what the Go code of the documentation takes for granted: imports, and what
// the text around it says is there.
const aroundGo = `package docs

import (
	"context"
	"database/sql"
	"log"
	"net/url"
	"sync/atomic"
	"time"

	pahoauto "github.com/eclipse/paho.golang/autopaho"
	"github.com/eclipse/paho.golang/paho"
	"github.com/oncemq/oncemq/autopaho"
	"github.com/oncemq/oncemq/persist"
	"github.com/oncemq/oncemq/persist/sqlite"
	"github.com/oncemq/oncemq/qos"
)

var (
	ctx      context.Context
	err      error
	ready    atomic.Bool
	cm       *pahoauto.ConnectionManager
	client   *autopaho.Client
	policies qos.Policies

	book, sensor, alert, command autopaho.Handler
	page func(context.Context, string, []byte) error
)
`

// The Go code of the documentation compiles: a block is what a function has in it, or,
// from the first line on that begins with func or import, what a file has.
func TestGoOfTheDocs(t *testing.T) {
	t.Parallel()
	packages := exported(t, "./autopaho", "./persist/sqlite", "github.com/eclipse/paho.golang/autopaho")
	checked := 0
	for _, file := range docsFiles(t) {
		text, err := os.ReadFile(filepath.Join(docsRoot, file))
		require.NoError(t, err)
		for _, block := range fence.FindAllStringSubmatch(string(text), -1) {
			if block[1] == "go" {
				checked++
				require.NoErrorf(t, packages.check(block[2]), "%s:\n%s", file, block[2])
			}
		}
	}
	require.Greater(t, checked, 8, "too few were found: is the pattern still right?")
	require.ErrorContains(t, packages.check("client.Enqueue(ctx, 1)"), "as \"github.com/oncemq/oncemq/autopaho\".Message")
	require.ErrorContains(t, packages.check("client.Store()"), "Store")
}

// exports are the files of packages' export data, by import path.
type exports map[string]string

// exported has packages and what they import compiled.
func exported(t *testing.T, packages ...string) exports {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"list", "-export", "-deps", "-json=ImportPath,Export"}, packages...)...)
	cmd.Dir, cmd.Stderr = docsRoot, os.Stderr
	text, err := cmd.Output()
	require.NoError(t, err)
	files := make(exports)
	for d := json.NewDecoder(strings.NewReader(string(text))); ; {
		var p struct{ ImportPath, Export string }
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return files
		} else {
			require.NoError(t, err)
		}
		files[p.ImportPath] = p.Export
	}
}

// check compiles a block. What is only declared or imported is left to the reader.
func (e exports) check(block string) error {
	inside, top := block, ""
	for _, first := range []string{"func ", "import "} {
		if before, _, found := strings.Cut("\n"+inside, "\n"+first); found {
			inside, top = before, ("\n" + block)[len(before):]
		}
	}
	header, body, _ := strings.Cut(aroundGo, "var (")
	if strings.Contains(block, "paho.NewStandardRouter") { // handlers of the same names on both sides
		body = "onSensor, onAlert, onOther paho.MessageHandler\n" + body
	} else {
		body = "onSensor, onOther autopaho.Handler\n" + body
	}
	if strings.HasPrefix(strings.TrimSpace(top), "import ") {
		header, body, top = "package docs\n"+top, "_ int", ""
		body += "\n)"
	}
	var found []error
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, "block.go", fmt.Sprintf("%svar (\n%s\n%s\nfunc _() error {\n%s\nreturn nil\n}", header, body, top, inside), parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	config := types.Config{
		Importer: importer.ForCompiler(set, "gc", func(path string) (io.ReadCloser, error) { return os.Open(e[path]) }),
		Error: func(err error) {
			if t := new(types.Error); !errors.As(err, t) || !t.Soft {
				found = append(found, err)
			}
		},
	}
	_, err = config.Check("docs", set, []*ast.File{file}, nil)
	if len(found) == 0 {
		return nil // err is soft
	}
	return errors.Join(append(found, err)...)
}
