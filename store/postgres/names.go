package postgres

import (
	"fmt"
	"regexp"
	"strings"
	"sync"

	"github.com/goutbox/goutbox/outbox"
)

// names translates the names in a text of SQL, which all begin with goutbox_, to those of
// one store: with its schema in front, so that no search_path of the application's
// matters.
type names struct {
	schema, table string
	known         sync.Map // text -> translated text
}

const (
	defaultTable = "goutbox"
	maxNameBytes = 40 // of PostgreSQL's 63; the longest of ours adds some
)

var (
	validName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_$]*$`)
	ourName   = regexp.MustCompile(`'?\bgoutbox_([a-z]+)(_[a-z]+)?\b'?`)
)

// checkName refuses what is no plain name. Names are quoted all the same, so a
// keyword or a capital letter is as good as any.
func checkName(what, name string) error {
	if len(name) > maxNameBytes || !validName.MatchString(name) {
		return fmt.Errorf("postgres: %s %q: letters, digits, _ and $ only, %d at most: %w", what, name, maxNameBytes, outbox.ErrInvalid)
	}
	return nil
}

// of translates a text. Indexes are named without a schema, which they have from their
// table; a name in quotes, for nextval, stays in quotes.
func (n *names) of(text string) string {
	if known, ok := n.known.Load(text); ok {
		return known.(string)
	}
	done := ourName.ReplaceAllStringFunc(text, func(name string) string {
		bare := strings.Trim(name, "'")
		own := n.table + strings.TrimPrefix(bare, defaultTable)
		full := `"` + n.schema + `"."` + own + `"`
		switch {
		case strings.HasPrefix(name, "'"):
			return "'" + full + "'"
		case strings.HasPrefix(bare, "goutbox_ix_"):
			return `"` + own + `"`
		}
		return full
	})
	n.known.Store(text, done)
	return done
}

// lockSpace is what tells the advisory locks of this store from all others of the database.
func (n *names) lockSpace() string { return n.schema + "." + n.table }
