"""Another issuer of access tokens, with a server that publishes its keys."""

import time
from typing import Any, Self

import jwt
import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as new_ec_key
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as new_rsa_key

NAME = "https://issuer.example"
AUDIENCE = "wallets"


class OtherIssuer:
    """It signs by RS256 and ES256, and says which keys are its own."""

    def __init__(self) -> None:
        self.rsa = new_rsa_key(public_exponent=65537, key_size=2048)
        self.ec = new_ec_key(SECP256R1())
        self.weak = new_rsa_key(public_exponent=65537, key_size=1024)  # noqa: S505  # on purpose
        self.asked = 0
        self._runner: web.AppRunner | None = None
        self._port = 0

    @property
    def setting(self) -> str:
        """What ACKLEDGER_TOKEN_ISSUERS says of it."""
        one = {
            "issuer": NAME,
            "jwks_url": f"http://127.0.0.1:{self._port}/keys",
            "audience": AUDIENCE,
            "algorithms": ["RS256", "ES256"],
            "role": "customer",
        }
        return orjson.dumps([one]).decode()

    def token(
        self, key: Any = None, *, algorithm: str = "RS256", kid: str = "rsa", **more: Any
    ) -> str:
        """Return a signed token for somebody; `more` are claims, of which None leaves one out."""
        now = int(time.time())
        claims = {
            "iss": NAME,
            "aud": AUDIENCE,
            "sub": "somebody",
            "iat": now,
            "exp": now + 600,
            **more,
        }
        return jwt.encode(
            {name: value for name, value in claims.items() if value is not None},
            key or self.rsa,
            algorithm=algorithm,
            headers={"kid": kid},
        )

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/keys", self._publish)
        self._runner = web.AppRunner(app)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _publish(self, _: web.Request) -> web.Response:
        self.asked += 1
        rsa, ec = jwt.algorithms.RSAAlgorithm, jwt.algorithms.ECAlgorithm
        keys = [
            {**rsa.to_jwk(self.rsa.public_key(), as_dict=True), "kid": "rsa", "alg": "RS256"},
            {**ec.to_jwk(self.ec.public_key(), as_dict=True), "kid": "ec", "alg": "ES256"},
            {**rsa.to_jwk(self.weak.public_key(), as_dict=True), "kid": "weak", "alg": "RS256"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
            {"kty": "nonsense"},
            7,
        ]
        return web.json_response({"keys": keys})
