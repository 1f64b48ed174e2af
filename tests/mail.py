"""An SMTP server that prints each mail it takes as a line of JSON.

usage: mail.py PORT [CERTIFICATE KEY USER PASSWORD]

With a certificate it takes mails after STARTTLS and a login only. The first recipient named busy@ is answered with 451
once, a recipient named nobody@ with 550 always.
"""

import email.policy
import json
import ssl
import sys
from email.parser import BytesParser

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


class Kept:
    def __init__(self):
        self.was_busy = False

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("busy@") and not self.was_busy:
            self.was_busy = True
            return "451 4.3.2 try again later"
        if address.startswith("nobody@"):
            return "550 5.1.1 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = BytesParser(policy=email.policy.default).parsebytes(envelope.content)
        taken = {
            "tls": session.ssl is not None,
            "to": envelope.rcpt_tos,
            "from": envelope.mail_from,
            "headers": {name.lower(): str(value) for name, value in mail.items()},
            "body": mail.get_content(),
        }
        print(json.dumps(taken), flush=True)
        return "250 OK"


def main():
    port, *secured = sys.argv[1:]
    settings = {}
    if secured:
        certificate, key, user, password = secured
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate, key)

        def authenticate(server, session, envelope, mechanism, login):
            known = (login.login, login.password) == (user.encode(), password.encode())
            return AuthResult(success=known, handled=False)

        settings = {
            "tls_context": context,
            "require_starttls": True,
            "auth_required": True,
            "authenticator": authenticate,
        }
    controller = Controller(Kept(), hostname="127.0.0.1", port=int(port), **settings)
    controller.start()
    print("ready", flush=True)
    sys.stdin.read()
    controller.stop()


main()
