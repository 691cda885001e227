package postgres_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// proxy stands between the store and the server, and cuts the connection at a message.
type proxy struct {
	dir, to string
	left    atomic.Int64 // client messages until the cut; below 0: never
	after   atomic.Bool  // cut when the server has answered, and keep the answer
	cuts    atomic.Int64
	thaw    chan struct{} // not nil: fall silent in place of cutting, until it is closed
	rude    atomic.Bool   // cut when the server has got it, and before it answers
	all     sync.WaitGroup
}

// newProxy listens on a socket of its own. The server's is in the folder that the DSN says.
func newProxy(t *testing.T) *proxy {
	t.Helper()
	p := &proxy{}
	for word := range strings.FieldsSeq(dsn(t)) {
		if dir, ok := strings.CutPrefix(word, "host="); ok && strings.HasPrefix(dir, "/") {
			p.to = filepath.Join(dir, ".s.PGSQL.5432")
		}
	}
	if p.to == "" {
		t.Skip("the server is not reached by a socket")
	}
	dir, err := os.MkdirTemp("", "goutbox-proxy-") // t.TempDir is too long for a socket
	require.NoError(t, err)
	p.dir = dir
	p.left.Store(-1)
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	require.NoError(t, err)
	p.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p.all.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		p.all.Wait()
		require.NoError(t, os.RemoveAll(dir))
	})
	return p
}

// cut has the n-th message from now on be the last one.
func (p *proxy) cut(n int64, after bool) {
	p.after.Store(after)
	p.left.Store(n)
}

func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := net.Dial("unix", p.to)
	if err != nil {
		return
	}
	defer server.Close()
	var deaf atomic.Bool // the client hears no answers any more
	heard := make(chan struct{}, 1)
	p.all.Go(func() {
		defer client.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := server.Read(b)
			if err != nil {
				close(heard)
				return
			}
			if deaf.Load() {
				select {
				case heard <- struct{}{}:
				default:
				}
				continue
			}
			if _, err := client.Write(b[:n]); err != nil {
				_, _ = io.Copy(io.Discard, server) // until it ends
				close(heard)
				return
			}
		}
	})
	b := make([]byte, 64<<10)
	for {
		n, err := client.Read(b)
		if err != nil {
			return
		}
		if p.left.Load() >= 0 && p.left.Add(-1) == 0 {
			p.left.Store(-1)
			p.cuts.Add(1)
			if p.thaw != nil {
				<-p.thaw
				return
			}
			if p.rude.Load() {
				_, _ = server.Write(b[:n]) // it will find nobody to answer to
				return
			}
			if p.after.Load() {
				deaf.Store(true)
				_, _ = server.Write(b[:n]) // what it says to that nobody hears
				<-heard
			}
			return
		}
		if _, err := server.Write(b[:n]); err != nil {
			return
		}
	}
}
