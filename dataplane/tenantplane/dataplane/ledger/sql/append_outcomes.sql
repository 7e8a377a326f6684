SELECT statuses, standing
  FROM dataplane.append_outcomes(
         %(proofs)s::json, %(outcomes)s::json, %(ciphertexts)b::bytea[], %(entries)b::bytea[])
