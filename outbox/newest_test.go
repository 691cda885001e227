package outbox_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/goutbox/goutbox/outbox"
)

// After an outage the newest go first, alarms before all, keys in their order.
func TestNewestFirst(t *testing.T) {
	for newest, want := range map[bool]string{
		false: "alarm e0 e1 e2",
		true:  "alarm e2 e1 e0",
	} {
		t.Run(fmt.Sprint(newest), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				opts := []outbox.Option{outbox.WithConcurrency(1), outbox.WithLimiter(every(time.Second))}
				if newest {
					opts = append(opts, outbox.NewestFirst())
				}
				f := setup(t, opts...)
				f.Pause()
				for _, name := range []string{"e0", "e1", "e2"} {
					f.enqueue(name)
					time.Sleep(time.Second)
				}
				f.enqueue("k0", outbox.WithKey("k"))
				f.enqueue("k1", outbox.WithKey("k"))
				f.enqueue("alarm", outbox.WithPriority(outbox.High))
				r := f.receiver(nil)
				f.start(r.publish)
				f.Resume()
				time.Sleep(time.Minute)
				names := strings.Fields(r.names())
				keyed := slices.DeleteFunc(slices.Clone(names), func(name string) bool { return name[0] != 'k' })
				require.Equal(t, []string{"k0", "k1"}, keyed, "P4")
				require.Equal(t, newest, slices.Index(names, "k0") == 1, "the key's head is the newest")
				rest := slices.DeleteFunc(names, func(name string) bool { return name[0] == 'k' })
				require.Equal(t, want, strings.Join(rest, " "))
			})
		})
	}
}
