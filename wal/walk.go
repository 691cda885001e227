package wal

import "fmt"

// walk goes through the groups of one segment.
type walk struct {
	*survey
	*scanner
	newest bool
	limit  Position // where the next segment begins: everything before it was durable; 0 when nothing tells
	seal   uint32   // what the next segment says is the CRC of the group before it
	sure   Position // the highest durable watermark of the segment
}

// vouch finds the highest watermark in the segment.
func (w *walk) vouch() error {
	if w.head.durable > 0 {
		w.sure = w.head.durable
	}
	for off := int64(blockBytes); ; {
		g, _, ok, err := w.group(off)
		switch {
		case err != nil:
			return err
		case ok:
			w.sure = max(w.sure, g.durable)
			off += g.size()
			continue
		}
		if off, err = w.findTag(off + groupAlign); err != nil || off < 0 {
			return err
		}
	}
}

// groups walks from group to group, and over damage to the next one.
func (w *walk) groups(p *piece) error {
	v := w.survey
	for w.limit == 0 || v.last+1 < w.limit {
		g, b, ok, err := w.group(w.off)
		if err != nil {
			return err
		}
		if ok && w.limit > 0 && g.last() >= w.limit {
			break // of a run that ended in a crash: these numbers were given out again
		}
		if ok {
			if err := w.take(&g, b[groupBytes:]); err != nil {
				return err
			}
			w.off += g.size()
			continue
		}
		if w.limit == 0 && w.sure <= v.last {
			return w.end(p.cut)
		}
		v.missing(w.name, w.off, v.last+1)
		if w.off, err = w.findTag(w.off + groupAlign); err != nil {
			return err
		}
		if w.off < 0 {
			break
		}
	}
	v.known = max(v.known, w.sure)
	if w.limit > 0 {
		w.sealed()
	}
	return nil
}

// take takes over an intact group.
func (w *walk) take(g *group, payload []byte) error {
	v := w.survey
	if g.first <= v.last { // written once more by a later run: see roll
		if g.last() == v.last {
			v.chain = g.crc
		}
		return nil
	}
	if g.prev > v.last {
		v.missing(w.name, w.off, v.last+1)
	}
	if v.waiting < 0 && (g.prev != v.last || g.chain != v.chain) {
		err := corrupt(w.name, w.off, "group of record %d does not follow the one before", g.first)
		v.found(Finding{File: w.name, Offset: w.off, Err: err}, false)
	}
	v.hole(g.prev)
	v.last, v.chain = g.last(), g.crc
	v.report.Records += uint64(g.records)
	if v.each == nil {
		return nil
	}
	return v.each(g, payload)
}

// sealed checks that the segment ended where the next one says.
func (w *walk) sealed() {
	v := w.survey
	switch {
	case v.last+1 < w.limit:
		v.missing(w.name, max(w.off, 0), v.last+1)
		v.hole(w.limit - 1)
	case v.last+1 > w.limit || v.waiting < 0 && v.chain != w.seal:
		v.found(Finding{File: w.name, Offset: w.off,
			Err: corrupt(w.name, w.off, "segment does not end where the next one continues, before record %d", w.limit)}, false)
	default:
		v.waiting = -1
	}
}

// end is reached where the groups end and no watermark says that there were more.
func (w *walk) end(cut bool) error {
	if !w.newest {
		return nil
	}
	v := w.survey
	w.scanner.last = v.last
	torn, err := w.judge()
	if err != nil {
		return err
	}
	switch {
	case cut && (torn > 0 || w.size-w.off < groupBytes):
		v.found(Finding{File: w.name, Offset: w.off, From: v.last + 1,
			Err: corrupt(w.name, w.off, "file is cut short in record %d or before it", v.last+1)}, false)
	case torn > 0:
		v.found(Finding{File: w.name, Offset: w.off, Torn: true,
			Err: fmt.Errorf("wal: %s at offset %d: torn tail of %d bytes", w.name, w.off, torn)}, false)
	}
	return nil
}
