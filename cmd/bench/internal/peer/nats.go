package peer

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/goutbox/goutbox/cmd/bench/internal/subject"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATS is JetStream of an embedded server.
var NATS = subject.Subject{
	Name: "nats",
	About: "NATS JetStream" + version("github.com/nats-io/nats-server/v2") + ", server embedded, connected in the process, sync always; a stream in files with work queue retention; Publish waits for the acknowledgement; " +
		"a batch is PublishMsgAsync for each event, not all or none; a durable pull consumer with explicit acks, 10,000 of them pending at most",
	Durable:      true,
	Open:         func(dir string) (subject.Queue, error) { return openNATS(dir, true) },
	OpenUnsynced: func(dir string) (subject.Queue, error) { return openNATS(dir, false) },
}

const (
	natsStream  = "BENCH"
	natsSubject = "bench.events"
	natsPending = 10_000 // acks, and publishes without one
)

// natsPatience is for every step of opening and closing.
const natsPatience = 30 * time.Second

type natsQueue struct {
	server   *server.Server
	conn     *nats.Conn
	js       jetstream.JetStream
	stream   jetstream.Stream
	consumer jetstream.Consumer
}

func openNATS(dir string, sync bool) (*natsQueue, error) {
	s, err := server.NewServer(&server.Options{
		ServerName: "bench", DontListen: true, JetStream: true, StoreDir: dir, SyncAlways: sync,
		NoLog: true, NoSigs: true, JetStreamMaxMemory: 1 << 30, JetStreamMaxStore: 1 << 40, MaxPayload: 32 << 20, MaxPending: 256 << 20,
	})
	if err != nil {
		return nil, err
	}
	q := &natsQueue{server: s}
	go s.Start() // returns, or ends with Close
	if !s.ReadyForConnections(natsPatience) {
		return nil, errors.Join(fmt.Errorf("the server is not ready"), q.Close())
	}
	if err := q.connect(); err != nil {
		return nil, errors.Join(err, q.Close())
	}
	return q, nil
}

func (q *natsQueue) connect() (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), natsPatience)
	defer cancel()
	if q.conn, err = nats.Connect("", nats.InProcessServer(q.server)); err != nil {
		return err
	}
	if q.js, err = jetstream.New(q.conn, jetstream.WithPublishAsyncMaxPending(natsPending)); err != nil {
		return err
	}
	q.stream, err = q.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: natsStream, Subjects: []string{natsSubject}, Retention: jetstream.WorkQueuePolicy, Storage: jetstream.FileStorage, AllowDirect: true,
	})
	if err != nil {
		return err
	}
	q.consumer, err = q.stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: "bench", AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: natsPending,
	})
	return err
}

func (q *natsQueue) Enqueue(ctx context.Context, payload []byte) error {
	_, err := q.js.Publish(ctx, natsSubject, payload)
	return err
}

func (q *natsQueue) EnqueueBatch(ctx context.Context, payloads [][]byte) error {
	acks := make([]jetstream.PubAckFuture, len(payloads))
	for i, p := range payloads {
		ack, err := q.js.PublishAsync(natsSubject, p)
		if err != nil {
			return err
		}
		acks[i] = ack
	}
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (q *natsQueue) Consume(ctx context.Context, publish func([]byte)) error {
	var failed atomic.Pointer[error]
	c, err := q.consumer.Consume(func(m jetstream.Msg) {
		publish(m.Data())
		if err := m.Ack(); err != nil {
			failed.CompareAndSwap(nil, &err)
		}
	}, jetstream.PullMaxMessages(5000))
	if err != nil {
		return err
	}
	<-ctx.Done()
	c.Drain()
	<-c.Closed()
	if err := failed.Load(); err != nil {
		return *err
	}
	return q.settled()
}

// settled waits until the server has all acks.
func (q *natsQueue) settled() error {
	ctx, cancel := context.WithTimeout(context.Background(), natsPatience)
	defer cancel()
	for {
		info, err := q.consumer.Info(ctx)
		if err != nil || info.NumAckPending == 0 {
			return err
		}
	}
}

func (q *natsQueue) Drain(ctx context.Context, publish func([]byte)) error {
	return untilEmpty(ctx, q, publish)
}

func (q *natsQueue) List(ctx context.Context, f func([]byte)) error {
	info, err := q.stream.Info(ctx)
	if err != nil || info.State.Msgs == 0 {
		return err
	}
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; seq++ {
		m, err := q.stream.GetMsg(ctx, seq)
		switch {
		case err == nil:
			f(m.Data)
		case !errors.Is(err, jetstream.ErrMsgNotFound):
			return err
		}
	}
	return nil
}

func (q *natsQueue) Counts(ctx context.Context) (subject.Counts, error) {
	info, err := q.stream.Info(ctx)
	if err != nil {
		return subject.Counts{}, err
	}
	return subject.Counts{Waiting: info.State.Msgs}, nil
}

func (q *natsQueue) Close() error {
	if q.conn != nil {
		q.conn.Close()
	}
	q.server.Shutdown()
	q.server.WaitForShutdown()
	return nil
}
