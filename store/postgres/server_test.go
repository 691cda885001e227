package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/lib/pq"
)

const (
	envDSN      = "GOUTBOX_POSTGRES_DSN"      // an existing server
	envRequired = "GOUTBOX_POSTGRES_REQUIRED" // 1: no server is a failure
)

// drivers are the names under which the two register.
var drivers = []string{"pgx", "postgres"}

// shared is the server of this run: a DSN, or why there is none.
var shared struct {
	dsn  string
	none error
}

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	if child := os.Getenv(envChild); child != "" {
		return runChild(child)
	}
	if shared.dsn = os.Getenv(envDSN); shared.dsn == "" {
		s, err := newServer("fsync=off", "full_page_writes=off")
		if shared.none = err; err == nil {
			shared.dsn = s.dsn()
			defer s.remove()
			interrupted := make(chan os.Signal, 1)
			signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
			go func() { // ends with the process
				<-interrupted
				s.remove()
				os.Exit(1)
			}()
		}
	}
	if shared.none != nil && os.Getenv(envRequired) == "1" {
		fmt.Fprintln(os.Stderr, "store/postgres: no server, and", envRequired, "is set:", shared.none)
		return 1
	}
	return m.Run()
}

// dsn is that of the server of this run. Without one the test is skipped.
func dsn(t testing.TB) string {
	t.Helper()
	if shared.none != nil {
		t.Skipf("no PostgreSQL server: install postgresql, or set %s (%v)", envDSN, shared.none)
	}
	return shared.dsn
}

// server is a PostgreSQL server in a temporary folder, reached by a socket in it. The kernel
// ends it if this process dies.
type server struct {
	bin, dir string
	settings []string
	as       *syscall.Credential
	mu       sync.Mutex // guards cmd
	cmd      *exec.Cmd
	ended    chan struct{}
	was      string // the DSN that this one stands in for
}

// newServer makes and starts one.
func newServer(settings ...string) (s *server, err error) {
	s = &server{settings: settings}
	if s.bin, err = findBin(); err != nil {
		return nil, err
	}
	if s.dir, err = os.MkdirTemp("", "goutbox-pg-"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.remove()
		}
	}()
	if os.Geteuid() == 0 { // PostgreSQL refuses to run as root
		if s.as, err = unprivileged(); err != nil {
			return nil, err
		}
		if err := os.Chown(s.dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := exec.Command(filepath.Join(s.bin, "initdb"), "-D", s.data(), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	initdb.Dir = s.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w: %s", err, out)
	}
	return s, s.start()
}

func findBin() (string, error) {
	if path, err := exec.LookPath("postgres"); err == nil {
		return filepath.Dir(path), nil
	}
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres") // Debian's place; the pattern is right
	slices.SortFunc(all, func(a, b string) int { return version(a) - version(b) })
	if len(all) == 0 {
		return "", errors.New("no postgres in PATH nor in /usr/lib/postgresql")
	}
	return filepath.Dir(all[len(all)-1]), nil
}

// version is that in a path of Debian's; 0 if there is none.
func version(path string) int {
	n, _ := strconv.Atoi(strings.Split(path, "/")[4])
	return n
}

func unprivileged() (*syscall.Credential, error) {
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, _ := strconv.ParseUint(u.Uid, 10, 32)
		gid, _ := strconv.ParseUint(u.Gid, 10, 32)
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("root, and no user postgres or nobody")
}

func (s *server) data() string { return filepath.Join(s.dir, "data") }

func (s *server) dsn() string {
	return "host=" + s.dir + " user=postgres dbname=postgres sslmode=disable"
}

// start starts the server and returns when it answers.
func (s *server) start() error {
	args := []string{"-D", s.data(), "-k", s.dir, "-c", "listen_addresses=", "-c", "max_connections=200", "-c", "logging_collector=off"}
	for _, set := range s.settings {
		args = append(args, "-c", set)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), args...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, s.dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as, Pdeathsig: syscall.SIGQUIT, Setpgid: true}
	started, ended := make(chan error), make(chan struct{})
	go func() { // ends with the server; its thread is the parent for Pdeathsig
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, as a rule
		}
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	s.mu.Lock()
	s.cmd, s.ended = cmd, ended
	s.mu.Unlock()
	return s.answers()
}

func (s *server) answers() error {
	db, err := sql.Open("pgx", s.dsn())
	if err != nil {
		return err
	}
	defer db.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for {
		if err = db.PingContext(ctx); err == nil {
			return nil
		}
		select {
		case <-s.ended:
			text, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("the server has ended: %s", text)
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// kill ends the server as pg_ctl stop -m immediate does: nothing is written any more.
func (s *server) kill() {
	s.mu.Lock()
	cmd, ended := s.cmd, s.ended
	s.mu.Unlock()
	if cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGQUIT) // it may have ended
		<-ended
	}
}

func (s *server) remove() {
	s.kill()
	_ = os.RemoveAll(s.dir) // in the temporary folder anyway
}
