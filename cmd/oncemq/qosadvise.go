package main

import (
	"context"

	"github.com/oncemq/oncemq/qos"
)

// adviceObject is the advice for a topic in JSON.
type adviceObject struct {
	Filter    string   `json:"filter"`
	Level     byte     `json:"level"`
	ExpiryMS  int64    `json:"expiry_ms,omitempty"`
	WhenFull  string   `json:"when_full"`
	Tolerates []string `json:"tolerates"`
	Rate      float64  `json:"rate"`
	Reasons   []string `json:"reasons"`
}

// printAdvice prints the policies for the needs of a file.
func (o *qosOptions) printAdvice(ctx context.Context, sh *shell) error {
	data, err := readFile(ctx, "--advise", o.advise)
	if err != nil {
		return err
	}
	needs, err := qos.ParseNeeds(o.advise, data)
	if err != nil {
		return &usageError{option: "--advise", problem: oneLine(err)}
	}
	advice, err := qos.Advise(needs)
	if err != nil {
		return &usageError{option: "--advise", problem: oneLine(err)}
	}
	if !o.json {
		_, err := sh.stdout.Write(qos.FormatAdvice(advice))
		return written(err)
	}
	for _, a := range advice {
		tolerates := []string{}
		if a.Need.LossTolerable {
			tolerates = append(tolerates, "loss")
		}
		if a.Need.DuplicatesTolerable {
			tolerates = append(tolerates, "duplicates")
		}
		if err := writeLine(sh.stdout, adviceObject{
			Filter: a.Need.Filter, Level: byte(*a.Policy.Level), ExpiryMS: a.Policy.Expiry.Milliseconds(),
			WhenFull: a.Policy.WhenFull.String(), Tolerates: tolerates, Rate: a.Need.Rate, Reasons: a.Reasons,
		}); err != nil {
			return written(err)
		}
	}
	return nil
}

// written is the error of a write to standard output; nil if there is none.
func written(err error) error {
	if err == nil {
		return nil
	}
	return outputError(err)
}
