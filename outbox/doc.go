// Package outbox keeps events on the disk of the program that makes them until they
// are published: a durable outbox for programs that run where the network does not
// always reach.
//
// A sensor gateway takes readings and sends them to a cloud that is sometimes not
// there. Handing a reading in is one call:
//
//	store, err := bolt.Open("/var/lib/gateway/outbox")
//	…
//	ob := outbox.New(store)
//	id, err := ob.Enqueue(ctx, "reading.taken", Reading{Sensor: 7, Celsius: 21.5})
//
// Publishing is another, which blocks, so it has a goroutine of its own:
//
//	err := ob.Start(ctx, func(ctx context.Context, e outbox.Event) error {
//		return post(ctx, "https://cloud.example/readings", e.ID.String(), e.Payload)
//	})
//
// That is all of it: [New], [Outbox.Enqueue], [Outbox.Start]. [Outbox.Do] is for who
// wants the first attempt at once and in place, [Outbox.Drain] for programs that run
// for a moment only. Stores are in the packages store/bolt (on disk) and store/mem
// (for tests); [Store] is what it takes to write another.
//
// # Guarantees
//
// When Enqueue returns nil the reading is on the disk, and it survives a power cut
// (P1), unless the store was opened with another sync level. It is published until
// the publisher returns nil, or ends as a dead letter
// that can be listed, requeued and deleted (P2): see [Outbox.Tasks],
// [Outbox.Requeue]. No reading is lost on the way, and the counters of
// [Outbox.Stats] prove it (P5).
//
// It may be published twice: when the program dies between the cloud's answer and
// our note of it, or when the answer is lost. Each time it carries the same ID, so
// that the cloud can tell (P2).
//
// Readings are published in no particular order, sixteen at a time. Those of one
// sensor are, if they have a key in common (P4):
//
//	ob.Enqueue(ctx, "reading.taken", r, outbox.WithKey("sensor-7"))
//
// # Publishing
//
// What the publisher returns decides what becomes of the event:
//
//	nil                         delivered
//	outbox.Permanent(err)       a dead letter: no attempt can change that (HTTP 422)
//	outbox.RetryAfter(err, d)   an attempt spent, the next when the destination says (429)
//	outbox.Unavailable(err)     nothing spent: the destination is not there (503)
//	any other error             an attempt spent, the next after the backoff
//
// A refused or reset connection, a failed lookup and a timeout count as Unavailable
// without a mark. Three attempts ([WithMaxAttempts]) are an event's budget; with the
// last one it is a dead letter, unless it has a Key: see [WithKeyPolicy]. A publisher that
// panics has spent one. [WithBackoff]
// says how long a refused event waits.
//
// # Time
//
// [WithDelay] and [WithDueAt] keep an event back, [WithTTL] drops it when it has
// waited for too long. All three are measured by a clock that does not jump when the
// wall clock is set (P12), and what is due is published at that moment, not at the
// next look: the loop interval is a safety net.
//
// What a time-to-live or a quota of the store has dropped is counted; with
// [WithGapMarkers] the cloud is told of it too, in its place among the events.
//
// # Outages
//
// A gateway may be offline for days. After three attempts that did not reach the cloud,
// with none delivered in between, Start stops trying, but for one probe at a time, with pauses that grow
// from a second to a minute. No attempt is spent and nothing is written meanwhile,
// however much waits (P6). The first probe that gets through lets everything flow, at a
// rate that starts gently and doubles every second ([WithRamp]). A program that knows
// when its link is up need not wait for the probe:
//
//	ob.Wake()
//
// An answer of 429 or 503 may say how long to wait: [HTTPError] reads it. [WithLimiter]
// keeps to a rate at all times.
//
// One event that brings the destination down, while others get through, is not taken
// for an outage: it spends its attempts like any other.
//
// # Several destinations
//
// A [Mux] sends events to destinations by their names. Each has a gate of its own, so that
// one that is away does not stop the others:
//
//	mux := outbox.NewMux()
//	err := mux.Handle("reading.*", post)
//	err = outbox.Handle(mux, "alarm.raised", func(ctx context.Context, a Alarm, e outbox.Event) error { … })
//	err = ob.StartMux(ctx, mux)
//
// # Who goes first
//
// Within a class of [WithPriority] the oldest goes first, or with [NewestFirst] the
// newest. Of the values of one sensor only the last may matter: [WithLatestOnly]. What
// becomes of the events behind one that fails for good is said by [WithKeyPolicy]; by
// default their key waits.
//
// # Seeing it
//
// [Outbox.Health] is nil, or says why events do not flow: it is what a health endpoint
// asks. [Outbox.Stats] counts what the store has, [Outbox.Destinations] what became of
// attempts, and [WithObserver] is told of each event as it happens: metrics are made
// there, and alarms for dead letters. [Outbox.Pause] and [Outbox.Resume] stop publishing
// for a while; accepting goes on.
// [WithGapMarkers] tells the receiver what was dropped, and a [Filter] finds dead letters
// for [Outbox.RequeueWhere].
//
// # Stopping
//
// Cancel the context of Start and wait until it returns: nil, if all went well. By
// then every attempt under way has ended and is settled, none was cut short, and what
// was not begun waits for the next Start. Then close the store. A program that is
// killed instead loses nothing; it may publish a few events again (P3).
package outbox
