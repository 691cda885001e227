package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/goutbox/goutbox/cmd/bench/internal/server"
	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
)

// needsServer says what is wrong if a server is wanted and not given, or the other way round.
func (c *config) needsServer() error {
	i := slices.IndexFunc(c.subjects, func(s subject.Subject) bool { return s.On != nil })
	switch {
	case i >= 0 && c.dsn == "":
		return fmt.Errorf("%s is measured on a PostgreSQL server: name one with -dsn postgres://user@host/database", c.subjects[i].Name)
	case i < 0 && c.dsn != "":
		return errors.New("-dsn: nothing that was chosen is measured on a server")
	}
	return nil
}

// connect finds the server, for those that need one.
func (c *config) connect(ctx context.Context) (err error) {
	if c.dsn == "" {
		return nil
	}
	if c.server, err = server.Connect(ctx, c.dsn); err != nil {
		return fmt.Errorf("-dsn: %s", strings.Join(strings.Fields(err.Error()), " "))
	}
	for i, s := range c.subjects {
		if s.On != nil {
			c.subjects[i] = s.On(c.server)
		}
	}
	return nil
}

// disconnect drops what is left on the server.
func (c *config) disconnect() error {
	if c.server == nil {
		return nil
	}
	return c.server.Close()
}
