package memory

import (
	"iter"
	"slices"
	"sort"
)

// sequence keeps values under increasing numbers: what was added last has the
// highest. Adding and removing cost constant time on average, finding a number
// is a binary search, and a walk visits the numbers in order.
type sequence[T any] struct {
	slots []slot[T]
	gone  int // how many slots are empty
}

// slot is one number and its value; nil once the value was removed.
type slot[T any] struct {
	number int64
	value  *T
}

// add appends a value. Its number must be higher than every earlier one.
func (q *sequence[T]) add(number int64, value *T) {
	q.slots = append(q.slots, slot[T]{number, value})
}

// search is the index of the first slot whose number is at least number.
func (q *sequence[T]) search(number int64) int {
	return sort.Search(len(q.slots), func(i int) bool { return q.slots[i].number >= number })
}

// get returns the value of a number, or nil.
func (q *sequence[T]) get(number int64) *T {
	if i := q.search(number); i < len(q.slots) && q.slots[i].number == number {
		return q.slots[i].value
	}
	return nil
}

// remove empties the slot of a number. Empty slots are dropped once they are
// the greater part, which moves fewer slots than were emptied since.
func (q *sequence[T]) remove(number int64) {
	i := q.search(number)
	if i == len(q.slots) || q.slots[i].number != number || q.slots[i].value == nil {
		return
	}
	q.slots[i].value = nil
	q.gone++
	if q.gone >= 32 && q.gone > len(q.slots)/2 {
		q.slots = slices.DeleteFunc(q.slots, func(s slot[T]) bool { return s.value == nil })
		q.gone = 0
		if cap(q.slots) > 1024 && len(q.slots) < cap(q.slots)/8 {
			q.slots = slices.Clone(q.slots) // a drained backlog gives its memory back
		}
	}
}

// after walks the values whose number is higher than number. The sequence must
// not be changed during the walk.
func (q *sequence[T]) after(number int64) iter.Seq2[int64, *T] {
	return func(yield func(int64, *T) bool) {
		for _, s := range q.slots[q.search(number+1):] {
			if s.value != nil && !yield(s.number, s.value) {
				return
			}
		}
	}
}
