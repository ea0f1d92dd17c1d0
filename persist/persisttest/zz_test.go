package persisttest
import ("testing";"time";"context";"path/filepath";"github.com/oncemq/oncemq/persist";"github.com/oncemq/oncemq/persist/sqlite")
func TestZZ(t *testing.T){
 p:=filepath.Join(t.TempDir(),"a.db")
 s,_:=sqlite.Open(t.Context(),p,sqlite.Options{})
 defer s.Close(context.Background())
 f:=&file{path:p,t:t}
 tx,_:=f.DB().Begin()
 _,err:=s.EnqueueTx(t.Context(),tx,messages("late",1)); t.Log(err)
 ctx,c:=context.WithTimeout(t.Context(),100*time.Millisecond); defer c()
 t0:=time.Now()
 _,err=s.Enqueue(ctx,messages("quick",1)); t.Log(time.Since(t0),err)
 tx.Rollback()
 s.AddDeadLetters(t.Context(), []persist.DeadLetter{{Side:persist.SideConsumer,State:persist.StateFailed,Message:persist.Message{Topic:"t"}}})
 n,err:=s.RetryDeadLetters(t.Context(),persist.DeadLetterFilter{},10); t.Log(n,err)
 l,_:=s.ListOutbox(t.Context(),persist.ListRequest{Limit:10}); t.Logf("%q",ids(l))
}
