package load

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
)

// The picture: a chart for throughput, one for latency.
const (
	plotWidth, plotHeight = 900, 300
	plotLeft, plotRight   = 90, 20
	plotTop, plotBottom   = 50, 40
	plotTicks             = 5
)

// leastOfSecond is how much of its last second a phase must have lasted for that to be
// drawn: the rate of a moment says nothing.
const leastOfSecond = 0.1

// line is one line of a chart.
type line struct {
	name, colour string
	x, y         []float64
}

// WriteSVG draws throughput and latency over time.
func (r *Result) WriteSVG(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", plotWidth, 2*plotHeight)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", plotWidth, 2*plotHeight)
	colours := []string{"#1f77b4", "#d62728", "#2ca02c"}
	var rates, latencies []line
	for i := range r.Phases {
		p := &r.Phases[i]
		colour := colours[i%len(colours)]
		rate := line{name: p.Name, colour: colour}
		p50 := line{name: p.Name + " p50", colour: colour}
		p99 := line{name: p.Name + " p99", colour: colour}
		for k, point := range p.Series {
			if k > 0 && point.Seconds < leastOfSecond {
				continue
			}
			x := float64(point.Second)
			rate.x, rate.y = append(rate.x, x), append(rate.y, point.Rate)
			p50.x, p50.y = append(p50.x, x), append(p50.y, point.P50)
			p99.x, p99.y = append(p99.x, x), append(p99.y, point.P99)
		}
		rates = append(rates, rate)
		latencies = append(latencies, p50, p99)
	}
	chart(&b, 0, r.title()+": messages a second", rates)
	chart(&b, plotHeight, "latency in milliseconds (p99 dashed)", latencies)
	b.WriteString("</svg>\n")
	_, err := w.Write(b.Bytes())
	return err
}

// WriteHTML is WriteSVG in a page.
func (r *Result) WriteHTML(w io.Writer) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!DOCTYPE html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"/><title>%s</title></head>\n<body>\n", escape(r.title()))
	if err := r.WriteSVG(&b); err != nil {
		return err
	}
	b.WriteString("</body>\n</html>\n")
	_, err := w.Write(b.Bytes())
	return err
}

func (r *Result) title() string {
	how := "plain"
	if r.Durable {
		how = "durable"
	}
	if r.Store != "" {
		how += " on " + r.Store
	}
	clients := "1 client"
	if r.Clients != 1 {
		clients = fmt.Sprintf("%d clients", r.Clients)
	}
	return fmt.Sprintf("oncemq bench %s, %s, %s, QoS %d, %d bytes, %s",
		r.Kind, how, clients, r.QoS, r.Size, r.Began.Format("2006-01-02 15:04"))
}

// chart draws lines with axes, from y down.
func chart(b *bytes.Buffer, top int, title string, lines []line) {
	mostX, mostY := 1.0, 0.0
	for _, l := range lines {
		for i := range l.x {
			mostX, mostY = max(mostX, l.x[i]+1), max(mostY, l.y[i])
		}
	}
	mostY = ceiling(mostY)
	const w, h = plotWidth - plotLeft - plotRight, plotHeight - plotTop - plotBottom
	x := func(v float64) float64 { return plotLeft + v/mostX*w }
	y := func(v float64) float64 { return float64(top+plotTop) + h - v/mostY*h }
	text(b, plotLeft, float64(top+20), "start", title)
	for i := range plotTicks + 1 {
		v := mostY * float64(i) / plotTicks
		fmt.Fprintf(b, `<path d="M%d %.1fH%d" stroke="#ddd" fill="none"/>`+"\n", plotLeft, y(v), plotLeft+w)
		text(b, plotLeft-8, y(v)+4, "end", short(v))
		s := mostX * float64(i) / plotTicks
		text(b, x(s), float64(top+plotTop+h+20), "middle", short(s)+" s")
	}
	for i, l := range lines {
		dash := ""
		if strings.HasSuffix(l.name, "p99") {
			dash = ` stroke-dasharray="5 3"`
		}
		var d strings.Builder
		for k := range l.x {
			fmt.Fprintf(&d, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[k == 0], x(l.x[k]+0.5), y(l.y[k]))
		}
		if len(l.x) == 1 { // a line has two ends
			fmt.Fprintf(&d, "h4")
		}
		if d.Len() > 0 {
			fmt.Fprintf(b, `<path d="%s" stroke="%s" stroke-width="2" fill="none"%s><title>%s</title></path>`+"\n", d.String(), l.colour, dash, escape(l.name))
		}
		at := float64(plotLeft + i*w/max(len(lines), 1))
		fmt.Fprintf(b, `<path d="M%.1f %dh20" stroke="%s" stroke-width="2"%s/>`+"\n", at, top+36, l.colour, dash)
		text(b, at+26, float64(top+40), "start", l.name)
	}
}

func text(b *bytes.Buffer, x, y float64, anchor, s string) {
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s">%s</text>`+"\n", x, y, anchor, escape(s))
}

func escape(s string) string {
	var b strings.Builder
	_ = xml.EscapeText(&b, []byte(s)) // a Builder takes everything
	return b.String()
}

// ceiling is the next of 1, 2, 5, 10, 20 and so on.
func ceiling(v float64) float64 {
	if v <= 0 {
		return 1
	}
	unit := math.Pow(10, math.Floor(math.Log10(v)))
	for _, step := range []float64{1, 2, 5} {
		if v <= step*unit {
			return step * unit
		}
	}
	return 10 * unit
}

// short is a number in few characters.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.4g", v)
}
