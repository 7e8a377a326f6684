-- Above what Valkey has open, too: a restored Postgres may know a lower epoch.
UPDATE dataplane.ledger_epoch
   SET epoch = greatest(epoch, %(open_epoch)s) + 1, raised_at = clock_timestamp()
 WHERE epoch = %(known)s
RETURNING epoch
