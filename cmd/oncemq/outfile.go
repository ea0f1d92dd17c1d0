package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// outFile is a file to which messages are appended, a batch of them with each
// write, and of which what append has returned for is on the disk.
//
// It is made readable for its owner only; one that is there keeps its rights. One
// process at a time writes to it, which a lock on it ensures.
type outFile struct {
	path  string
	whole bool // it consists of whole lines
	f     syncFile
	cut   int64 // where to cut off what a failed write has left; -1 for nowhere
}

// syncFile is what is needed of an open file.
type syncFile interface {
	io.WriteCloser
	Stat() (os.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// openOutFile opens or makes the file. If it consists of lines, and the last one is
// torn by a crash that came while it was written, that piece is moved to a file
// beside it: its message was not acknowledged, and comes again. torn tells where.
func openOutFile(path string, whole bool) (o *outFile, torn string, err error) {
	o = &outFile{path: path, whole: whole, cut: -1}
	torn, err = o.open()
	if err != nil {
		return nil, "", err
	}
	return o, torn, nil
}

var errNotRegular = errors.New("is not a regular file, so that nothing in it would be safe; leave --out away to print to standard output")

func (o *outFile) open() (torn string, err error) {
	if info, err := os.Stat(o.path); err == nil && !info.Mode().IsRegular() {
		return "", errNotRegular // looked at first: opening a FIFO would wait for its reader
	}
	f, err := os.OpenFile(o.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			_ = f.Close() // nothing was written to it
		}
	}()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return "", fmt.Errorf("another oncemq writes to %s; give each a file of its own", o.path)
		}
		return "", fmt.Errorf("lock %s: %w", o.path, err)
	}
	if o.whole {
		if torn, err = o.repair(f); err != nil {
			return "", err
		}
	}
	if err := syncDir(filepath.Dir(o.path)); err != nil {
		return "", err
	}
	o.f = f
	return torn, nil
}

// repair moves what stands after the last end of a line to a file beside it, and
// returns its name; empty if nothing does.
func (o *outFile) repair(f *os.File) (string, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	end, err := lastLineEnd(f, info.Size())
	if err != nil || end == info.Size() {
		return "", err
	}
	name := o.path + ".torn"
	torn, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(torn, io.MultiReader(io.NewSectionReader(f, end, info.Size()-end), bytes.NewReader([]byte{'\n'})))
	err = errors.Join(err, torn.Sync(), torn.Close())
	if err != nil {
		return "", err
	}
	if err := f.Truncate(end); err != nil {
		return "", err
	}
	return name, f.Sync()
}

// lastLineEnd is where the last whole line of a file of a size ends.
func lastLineEnd(f io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for end := size; end > 0; {
		n := min(end, int64(len(buf)))
		if _, err := f.ReadAt(buf[:n], end-n); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return end - n + int64(i) + 1, nil
		}
		end -= n
	}
	return 0, nil
}

// append writes data and returns once they are on the disk. After an error the file
// is as it was before: what was written may not reach the disk even if a later sync
// finds no fault. If the file was deleted, which leaves it without a name, they go into
// a new one.
func (o *outFile) append(b []byte) error {
	for {
		if err := o.undo(); err != nil {
			return err
		}
		info, err := o.f.Stat() // somebody may have emptied it meanwhile, as logrotate's copytruncate does
		if err != nil {
			return err
		}
		if !deleted(info) {
			_, err = o.f.Write(b)
			if err == nil {
				err = o.f.Sync()
			}
			if err != nil {
				o.cut = info.Size()
				_ = o.undo() // tried again by the next append
				return err
			}
			if info, err = o.f.Stat(); err != nil || !deleted(info) {
				return err
			}
		}
		if _, err := o.reopen(); err != nil {
			return err
		}
	}
}

// deleted tells whether a file that is open has no name any more: nobody would find
// what is written to it.
func deleted(info os.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 0
}

// undo cuts off what a write has left that failed.
func (o *outFile) undo() error {
	if o.cut < 0 {
		return nil
	}
	if info, err := o.f.Stat(); err != nil {
		return err
	} else if info.Size() > o.cut {
		if err := o.f.Truncate(o.cut); err != nil {
			return err
		}
	}
	o.cut = -1
	return nil
}

// reopen opens the path anew, for a file that was renamed. If that fails the old
// file stays in use.
func (o *outFile) reopen() (torn string, err error) {
	old := o.f
	if same, err := o.isCurrent(); err != nil || same {
		return "", err
	}
	if err := o.undo(); err != nil {
		return "", err
	}
	if torn, err = o.open(); err != nil {
		return "", err
	}
	return torn, old.Close() // all of it is on the disk
}

// isCurrent tells whether the path still leads to the file that is open.
func (o *outFile) isCurrent() (bool, error) {
	open, err := o.f.Stat()
	if err != nil {
		return false, err
	}
	there, err := os.Stat(o.path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(open, there), err
}

func (o *outFile) close() error { return o.f.Close() }

// syncDir makes a new file's name durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if errors.Is(err, syscall.EINVAL) { // a file system that has no such thing
		err = nil
	}
	return errors.Join(err, d.Close())
}
