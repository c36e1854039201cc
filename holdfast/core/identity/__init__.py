# SPDX-License-Identifier: Apache-2.0
"""Who somebody is: the account chain and what may be appended to it, the policy it names, the trust it rests on."""
