// Package load makes the events of a measurement, sends them through producers,
// times them, and proves afterwards that each of them is where it has to be.
package load

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"
)

// MinSize is the smallest payload: what [Source] writes at its beginning.
//
//	offset  size
//	     0     8  tag of the run
//	     8     4  producer
//	    12     8  sequence, from 0, of that producer
//	    20     8  nanoseconds since the source was made, when it was sent
//	    28     .  noise, which depends on producer and sequence
const MinSize = 28

const spread = 4096 // so many different noises

// Source makes payloads and recognises them. They do not compress, so no file
// system or device can save itself work. It is safe for concurrent use.
type Source struct {
	tag   uint64
	size  int
	began time.Time
	noise []byte
}

// NewSource returns a source of payloads of size bytes, at least [MinSize]. The
// same seed makes the same noise.
func NewSource(seed uint64, size int) *Source {
	random := rand.New(rand.NewPCG(seed, uint64(size)))
	s := &Source{tag: random.Uint64(), size: size, began: time.Now(), noise: make([]byte, size+spread)}
	for i := range s.noise {
		s.noise[i] = byte(random.Uint32())
	}
	return s
}

// Noise returns n bytes that do not compress; the source keeps no hold of them.
func (s *Source) Noise(n int) []byte {
	return bytes.Repeat(s.noise, n/len(s.noise)+1)[:n]
}

// Fill writes one payload into b, which has the source's size.
func (s *Source) Fill(b []byte, producer int, seq uint64, sent time.Time) {
	binary.LittleEndian.PutUint64(b, s.tag)
	binary.LittleEndian.PutUint32(b[8:], uint32(producer))
	binary.LittleEndian.PutUint64(b[12:], seq)
	binary.LittleEndian.PutUint64(b[20:], uint64(sent.Sub(s.began)))
	copy(b[MinSize:], s.noiseOf(producer, seq))
}

func (s *Source) noiseOf(producer int, seq uint64) []byte {
	at := (uint64(producer)*131 + seq*7) % spread
	return s.noise[at:][:s.size-MinSize]
}

// Mark is what a payload says of itself.
type Mark struct {
	Producer int
	Seq      uint64
	Sent     time.Time
}

// Peek reads producer and sequence of a payload that [Source.Fill] has just made.
func Peek(b []byte) (producer int, seq uint64) {
	return int(binary.LittleEndian.Uint32(b[8:])), binary.LittleEndian.Uint64(b[12:])
}

// Read checks every byte of a payload.
func (s *Source) Read(b []byte) (Mark, error) {
	if len(b) != s.size {
		return Mark{}, fmt.Errorf("a payload of %d bytes instead of %d", len(b), s.size)
	}
	if binary.LittleEndian.Uint64(b) != s.tag {
		return Mark{}, fmt.Errorf("a payload of another run")
	}
	m := Mark{
		Producer: int(binary.LittleEndian.Uint32(b[8:])),
		Seq:      binary.LittleEndian.Uint64(b[12:]),
		Sent:     s.began.Add(time.Duration(binary.LittleEndian.Uint64(b[20:]))),
	}
	if !bytes.Equal(b[MinSize:], s.noiseOf(m.Producer, m.Seq)) {
		return Mark{}, fmt.Errorf("the payload of event %d of producer %d is damaged", m.Seq, m.Producer)
	}
	return m, nil
}
