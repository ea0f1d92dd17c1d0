package dedup

// link is a node's place in one list.
type link struct {
	prev, next *link
	in         *list
	n          *Node
}

// list is a doubly linked list of nodes through links that are part of them, so
// that a delivery is queued and taken back without allocation or search.
type list struct {
	head, tail *link
	len        int
}

func (l *list) pushBack(e *link) {
	l.insertAfter(e, l.tail)
}

func (l *list) pushFront(e *link) {
	l.insertAfter(e, nil)
}

// insertAfter puts e behind at, or first if at is nil.
func (l *list) insertAfter(e, at *link) {
	e.in = l
	e.prev = at
	if at == nil {
		e.next = l.head
		l.head = e
	} else {
		e.next = at.next
		at.next = e
	}
	if e.next == nil {
		l.tail = e
	} else {
		e.next.prev = e
	}
	l.len++
}

// remove takes e out of whichever list it is in, if it is in one.
func (e *link) remove() {
	l := e.in
	if l == nil {
		return
	}
	if e.prev == nil {
		l.head = e.next
	} else {
		e.prev.next = e.next
	}
	if e.next == nil {
		l.tail = e.prev
	} else {
		e.next.prev = e.prev
	}
	l.len--
	e.prev, e.next, e.in = nil, nil, nil
}

// popFront takes the first node out, or returns nil.
func (l *list) popFront() *Node {
	e := l.head
	if e == nil {
		return nil
	}
	e.remove()
	return e.n
}

// takeAll moves everything of other to the end of l.
func (l *list) takeAll(other *list) {
	for n := other.popFront(); n != nil; n = other.popFront() {
		l.pushBack(&n.place)
	}
}
