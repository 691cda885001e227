package workload

import (
	"strings"
	"testing"

	"github.com/goutbox/goutbox/cmd/bench/internal/load"
)

func TestLanes_NoticeWhatIsOutOfOrder(t *testing.T) {
	for want, see := range map[string]func(l *lanes){
		"": func(l *lanes) {
			for _, seq := range []uint64{1, 0, 2, 3, 5, 4} { // the keys are 0 and 1
				l.see(load.Mark{Producer: 1, Seq: seq})
			}
		},
		"event 2 of producer 0 was published when 0 was next": func(l *lanes) { l.see(load.Mark{Seq: 2}) },
		"event 0 of producer 0 was published when 2 was next": func(l *lanes) {
			l.see(load.Mark{})
			l.see(load.Mark{})
		},
		"two events of key-3 are published at a time": func(l *lanes) {
			l.busy[3].Store(true)
			l.see(load.Mark{Producer: 1, Seq: 1})
		},
	} {
		l := newLanes(2, 2)
		see(l)
		switch err := l.check(); {
		case err == nil && want != "":
			t.Errorf("nobody says that %s", want)
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%v, want %q", err, want)
		}
	}
}
