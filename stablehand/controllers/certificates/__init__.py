"""CertificateSigningRequests: approved where policy allows it, signed with the cluster's authority, and tidied away.

requests    what a request asks for, and whether a signer may grant it; pure
authority   certificates from requests, under the cluster's key
approving   kubelets' own client certificates, approved by access review
signing     approved requests of the kubernetes.io signers
cleaner     requests nobody needs any more

Who may approve and sign by hand is the API server's admission.
"""

from stablehand.controllers.certificates.approving import ApprovingController
from stablehand.controllers.certificates.authority import Authority, AuthorityError
from stablehand.controllers.certificates.cleaner import CleanerController
from stablehand.controllers.certificates.signing import SigningController

__all__ = ["ApprovingController", "Authority", "AuthorityError", "CleanerController", "SigningController"]
