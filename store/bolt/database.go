package bolt

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"

	"github.com/goutbox/goutbox/outbox"
	"github.com/goutbox/goutbox/wal"
	"go.etcd.io/bbolt"
)

// The database's buckets, all in one top-level bucket so that an application can
// share its database with the outbox:
//
//	tasks    ID                  -> task, CRC        waits; written once
//	retries  ID                  -> schedule, CRC    of those tasks that were tried, or have moved
//	due      queue, due time, ID -> those behind it  of tasks without a key and of the heads of keys; see place.go, sheet.go
//	keys     length, key, ID     -> nothing          of tasks with a key
//	sole     'u' or 'l', key     -> ID               holders of Unique and LatestOnly keys
//	dead     ID                  -> task, schedule, reason, CRC
//	damaged  ID                  -> where it was, its bytes   of tasks that do not pass their CRC; made when the first is met
//	parked   length, key, ID     -> nothing          of dead letters that park their key; made when there is the first
//	spent    'k', key            -> until, ID, CRC   Unique keys that are taken after a delivery; made when there is the first
//	         't', until, key     -> nothing          the same, by time
//	meta     "format", "state", "wall", "usage"
//
// Numbers in keys are big-endian, so that the order of bytes is the order of
// numbers (R25). bbolt does not check its pages, so every value carries a CRC of
// its own, over the ID too (R26).
var (
	bucketRoot    = []byte("goutbox")
	bucketTasks   = []byte("tasks")
	bucketRetries = []byte("retries")
	bucketDue     = []byte("due")
	bucketKeys    = []byte("keys")
	bucketSole    = []byte("sole")
	bucketDead    = []byte("dead")
	bucketMeta    = []byte("meta")
	bucketDamaged = []byte("damaged")
	bucketParked  = []byte("parked")
	bucketSpent   = []byte("spent")

	keyFormat = []byte("format")
	keyState  = []byte("state")
	keyWall   = []byte("wall")
	keyUsage  = []byte("usage")

	keySalvaged = []byte("salvaged") // of a store that Salvage has put together
)

// getter is the meta bucket for those who read it.
type getter interface{ Get(key []byte) []byte }

// formatVersion is that of the database. Version 1 had no usage record, version 2 one
// without classes, and both listed all tasks in one queue, where they stay: see
// queueName. Version 3 had no sheets. They are brought to version 4 when they are opened.
const formatVersion = 4

// buckets are the store's buckets as one transaction sees them.
type buckets struct {
	tasks, retries, due, keys, sole, dead, meta *bbolt.Bucket

	root *bbolt.Bucket

	damaged, parked, spent *bbolt.Bucket // nil until there is something in them
}

// openBuckets finds the buckets in tx.
func openBuckets(tx *bbolt.Tx) (buckets, error) {
	root := tx.Bucket(bucketRoot)
	if root == nil {
		return buckets{}, fmt.Errorf("%w: %s: no bucket %q", outbox.ErrCorrupt, tx.DB().Path(), bucketRoot)
	}
	b := buckets{
		tasks: root.Bucket(bucketTasks), retries: root.Bucket(bucketRetries), due: root.Bucket(bucketDue),
		keys: root.Bucket(bucketKeys), sole: root.Bucket(bucketSole), dead: root.Bucket(bucketDead), meta: root.Bucket(bucketMeta),
		root: root, damaged: root.Bucket(bucketDamaged), parked: root.Bucket(bucketParked), spent: root.Bucket(bucketSpent),
	}
	for _, one := range [...]*bbolt.Bucket{b.tasks, b.retries, b.due, b.keys, b.sole, b.dead, b.meta} {
		if one == nil {
			return buckets{}, fmt.Errorf("%w: %s: a bucket is missing in %q", outbox.ErrCorrupt, tx.DB().Path(), bucketRoot)
		}
	}
	return b, nil
}

// createBuckets makes the buckets of a new store.
func createBuckets(tx *bbolt.Tx, uuid [16]byte) error {
	root, err := tx.CreateBucket(bucketRoot)
	if err != nil {
		return err
	}
	for _, name := range [...][]byte{bucketTasks, bucketRetries, bucketDue, bucketKeys, bucketSole, bucketDead, bucketMeta} {
		if _, err := root.CreateBucket(name); err != nil {
			return err
		}
	}
	if err := putFormat(root.Bucket(bucketMeta), uuid); err != nil {
		return err
	}
	if err := (usage{}).write(root.Bucket(bucketMeta)); err != nil {
		return err
	}
	return state{}.put(root.Bucket(bucketMeta))
}

func putFormat(meta *bbolt.Bucket, uuid [16]byte) error {
	format := binary.LittleEndian.AppendUint32(nil, formatVersion)
	return meta.Put(keyFormat, withCRC(nil, append(format, uuid[:]...)))
}

// readFormat returns the database's version and the store's UUID, or refuses a store
// that this program does not understand (R46).
func readFormat(meta getter, path string) (version uint32, uuid [16]byte, err error) {
	v, err := checkCRC(nil, meta.Get(keyFormat)) // in the same place in every version, or damage would pass for one
	if err == nil && len(v) >= 4 {
		if version = binary.LittleEndian.Uint32(v); version > formatVersion {
			return version, uuid, fmt.Errorf("%w: %s has version %d, this program knows %d", outbox.ErrVersion, path, version, formatVersion)
		}
	}
	if err != nil || len(v) != 4+16 || version == 0 {
		return version, uuid, fmt.Errorf("%w: %s: store format record", outbox.ErrCorrupt, path)
	}
	copy(uuid[:], v[4:])
	return version, uuid, nil
}

// state is what the database knows of the whole store. It is written in the same
// transaction as the tasks it belongs to (R29).
type state struct {
	checkpoint wal.Position // the last log record whose effect is in the database
	ledger     ledger
	lastID     outbox.ID
	seen       moment // the last
	gaps       gaps
	gapsAt     wal.Position // the log record that gaps are of: checkpoint, or a later one
}

// knows is the last log record that the database has seen.
func (s *state) knows() wal.Position { return max(s.checkpoint, s.gapsAt) }

func (s state) put(meta *bbolt.Bucket) error {
	b := binary.LittleEndian.AppendUint64(nil, uint64(s.checkpoint))
	b = s.ledger.append(b)
	b = append(b, s.lastID[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.seen.clock))
	b = s.gaps.append(binary.LittleEndian.AppendUint64(b, uint64(s.gapsAt)))
	w := binary.LittleEndian.AppendUint64(nil, uint64(s.seen.clock))
	w = binary.LittleEndian.AppendUint64(w, uint64(s.seen.wall))
	if err := meta.Put(keyWall, withCRC(nil, w)); err != nil {
		return err
	}
	return meta.Put(keyState, withCRC(nil, b))
}

func readState(meta getter, path string) (state, error) {
	v, err := checkCRC(nil, meta.Get(keyState))
	if err != nil {
		return state{}, fmt.Errorf("%w: %s: store state record", outbox.ErrCorrupt, path)
	}
	r := reader{b: v}
	s := state{checkpoint: wal.Position(r.int64()), ledger: r.ledger(), lastID: r.id()}
	seen := r.int64()
	if len(r.b) > 0 { // not in formats 1 and 2
		s.gapsAt, s.gaps = wal.Position(r.int64()), r.gaps()
	}
	if r.bad || len(r.b) != 0 {
		return state{}, fmt.Errorf("%w: %s: store state record", outbox.ErrCorrupt, path)
	}
	s.seen, err = readWall(meta, path)
	s.seen.pass(seen)
	return s, err
}

// readWall reads the last moment. A store that was written before there was such a
// record has seen none; its clock was the wall clock.
func readWall(meta getter, path string) (m moment, err error) {
	v := meta.Get(keyWall)
	if v == nil {
		return m, nil
	}
	if v, err = checkCRC(nil, v); err != nil || len(v) != 16 {
		return m, fmt.Errorf("%w: %s: store clock record", outbox.ErrCorrupt, path)
	}
	r := reader{b: v}
	return moment{clock: r.int64(), wall: r.int64()}, nil
}

// putSalvaged notes that Salvage has seen to the sums up to this record of the log: until
// there baselines of other checkpoints say nothing, and a record may be about a task that
// is lost.
func putSalvaged(meta *bbolt.Bucket, pos wal.Position) error {
	return meta.Put(keySalvaged, withCRC(keySalvaged, binary.LittleEndian.AppendUint64(nil, uint64(pos))))
}

func readSalvaged(meta getter, path string) (wal.Position, error) {
	v := meta.Get(keySalvaged)
	if v == nil {
		return 0, nil
	}
	v, err := checkCRC(keySalvaged, v)
	if err != nil || len(v) != 8 {
		return 0, fmt.Errorf("%w: %s: record of what was salvaged", outbox.ErrCorrupt, path)
	}
	return wal.Position(binary.LittleEndian.Uint64(v)), nil
}

// changeState applies f to the state record.
func changeState(meta *bbolt.Bucket, path string, f func(*state)) error {
	s, err := readState(meta, path)
	if err != nil {
		return err
	}
	f(&s)
	return s.put(meta)
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// crcSize is what withCRC appends.
const crcSize = 4

// withCRC returns value and the CRC of key and value.
func withCRC(key, value []byte) []byte {
	return binary.LittleEndian.AppendUint32(value, sum(key, value))
}

// checkCRC returns the value without its CRC.
func checkCRC(key, v []byte) ([]byte, error) {
	if len(v) < 4 {
		return nil, fmt.Errorf("%w: value of %d bytes", outbox.ErrCorrupt, len(v))
	}
	value, crc := v[:len(v)-4], binary.LittleEndian.Uint32(v[len(v)-4:])
	if crc != sum(key, value) {
		return nil, fmt.Errorf("%w: checksum of a value of %d bytes", outbox.ErrCorrupt, len(value))
	}
	return value, nil
}

func sum(key, value []byte) uint32 {
	return crc32.Update(crc32.Update(0, castagnoli, key), castagnoli, value)
}

// keyPrefix is what the places of all tasks of an ordering key begin with. The
// length in front keeps "a" apart from "ab".
func keyPrefix(key string) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(key)+16), uint16(len(key)))
	return append(b, key...)
}

func keyPlace(key string, id outbox.ID) []byte { return append(keyPrefix(key), id[:]...) }

func uniquePlace(key string) []byte { return append([]byte{'u'}, key...) }
func latestPlace(key string) []byte { return append([]byte{'l'}, key...) }
