"""SQL of signing keys, platform keys and client assertions."""

from __future__ import annotations

from typing import Final, LiteralString

ACTIVE_SIGNING_KEY: Final[LiteralString] = """
SELECT kid, wrapped_private, wrapped_key FROM controlplane.signing_key WHERE status = 'active'
"""
INSERT_SIGNING_KEY: Final[LiteralString] = """
INSERT INTO controlplane.signing_key (kid, wrapped_private, wrapped_key, public_jwk, status)
VALUES (%(kid)s, %(wrapped_private)s, %(wrapped_key)s, %(public_jwk)s, 'active')
ON CONFLICT DO NOTHING
"""
PUBLIC_KEYS: Final[LiteralString] = """
SELECT public_jwk FROM controlplane.signing_key ORDER BY created_at DESC
"""
ENSURE_PLATFORM_KEY: Final[LiteralString] = """
INSERT INTO controlplane.platform_key (sha256, name) VALUES (%(sha256)s, %(name)s)
ON CONFLICT (sha256) DO NOTHING
"""
# An org's own key is told apart, so that its holder learns that it is good, but not for this.
HOLDER_OF_KEY: Final[LiteralString] = """
-- all orgs: a key's hash is looked up before it is known whose it is.
SELECT (SELECT name FROM controlplane.platform_key
         WHERE sha256 = %(sha256)s AND revoked_at IS NULL) AS platform_key,
       EXISTS (SELECT FROM controlplane.api_key
                WHERE sha256 = %(sha256)s AND revoked_at IS NULL) AS is_org_key
"""
FORGET_ASSERTIONS: Final[LiteralString] = """
DELETE FROM controlplane.client_assertion WHERE expires_at < now() - interval '1 minute'
"""
USE_ASSERTION: Final[LiteralString] = """
INSERT INTO controlplane.client_assertion (client_id, jti, expires_at)
VALUES (%(client_id)s, %(jti)s, %(expires_at)s)
ON CONFLICT (client_id, jti) DO NOTHING
"""
